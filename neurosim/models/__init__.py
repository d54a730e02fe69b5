"""What a model file says: its circuit, where its weights start, what it asks of a protocol."""
