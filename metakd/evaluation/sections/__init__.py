"""The sections of reports: what each shows, from results that were computed elsewhere."""
