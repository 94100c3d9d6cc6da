"""The ledger in PostGIS: schema, migrations, bulk writes, queries. Imports nothing of ours."""
