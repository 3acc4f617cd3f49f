"""JOWA: one transformer that is world model and Q-function (arXiv 2410.00564)."""
