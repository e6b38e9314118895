"""Events in: from Kafka or files, decoded and checked once."""
