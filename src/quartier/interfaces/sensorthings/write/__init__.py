"""Creating, changing and deleting: bodies are read against the facts of the model, and written in one transaction.

``values`` and ``body`` know what may be posted, ``rights`` who may; ``create``, ``change`` and ``delete`` write;
``observe`` takes observations to the twin's recorder; ``service`` answers requests, alone or within a batch.
"""
