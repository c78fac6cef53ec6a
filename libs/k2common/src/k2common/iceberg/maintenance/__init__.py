"""Work on a table beside its commits: compaction, purge, repair, removal of orphan files."""
