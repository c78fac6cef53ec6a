"""From record batches to data files: taken from Kafka, decoded, sorted, checked, written."""
