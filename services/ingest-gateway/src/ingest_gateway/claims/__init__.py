"""The journal of uploads: claims in Kafka, chunks published once."""
