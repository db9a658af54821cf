"""The coordinator: takes jobs, leases tasks, ingests samples and generations, and makes joules of them."""
