"""What every replica knows of uploads from the topics: statuses, commands, offsets, visibility."""
