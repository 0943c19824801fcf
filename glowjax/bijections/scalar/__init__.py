"""Maps of single numbers, for couplings and autoregressive flows."""
