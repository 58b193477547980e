"""Programs compiled by the TPU compiler, as estimates."""
