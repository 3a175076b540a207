"""Growth: whether what a process holds grows with what has departed, by how much, and by which of it. Pure statistics."""
