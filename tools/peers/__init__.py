"""Other tools at the same job, each run as its documentation suggests, in a process of its own."""
