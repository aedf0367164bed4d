"""`data_processing`: tables from CSV and Parquet files, by a few declared steps. No code comes over the wire."""
