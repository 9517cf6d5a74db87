"""The dialect of the own contract, docs/inference-http.md."""
