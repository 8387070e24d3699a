"""SETR: encoders, embeddings and decoders, and weights from elsewhere."""
