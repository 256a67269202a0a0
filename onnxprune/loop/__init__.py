"""What drives the stages: sensitivity of groups, recipes of steps, schedules, and search over recipes."""
