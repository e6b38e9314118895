"""What tests share: real brokers and servers, lineages in folders, events, and learners of every kind."""
