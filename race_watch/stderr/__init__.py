"""The worker's stderr: how it is seen, and what it tells of."""

LEFT_ALONE = "left alone: "
# Where the watcher is not the worker's parent.
NOT_HERE = LEFT_ALONE + "only `race-watch run` sees it"
