"""The store on SQLite: jobs, transcriptions, the ledger and the controls, in one database file."""
