"""Text in, batches out: shards, tokenizers, byte counts, validation streams, loaders."""
