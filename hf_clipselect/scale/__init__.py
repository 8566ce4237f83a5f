"""What outgrows one machine: shards of image-text pairs scored, selected and written by datatrove's executors."""
