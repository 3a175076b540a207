"""The boards, one a file: uid -> what makes it."""
