"""`cluster-ai batch run`: a file of prompts becomes batches at the gateway, and their answers a file again."""
