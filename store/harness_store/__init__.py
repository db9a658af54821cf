"""The store: the SQL schema, its migrations, sample segments, and the queries both sides need."""
