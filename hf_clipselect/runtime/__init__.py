"""What every room stands on: processes, files, Parquet, failures, messages."""
