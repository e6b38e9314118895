"""HTTP beneath the answers: connections, hosts, tokens, shapes."""
