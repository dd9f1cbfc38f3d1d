"""HTTP: requests and answers as values, one engine, second attempts and what they cost."""
