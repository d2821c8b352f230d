"""Mixed bfloat16 precision for scripts that were written for float32."""
