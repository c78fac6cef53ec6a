"""The only door to aiokafka."""
