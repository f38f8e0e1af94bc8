"""What stands on a job's page beside its form; the module's name is the job's."""
