"""The store on a Cassandra cluster, or on DataStax Astra, that many machines share.

The only part of Tamis that knows `cassandra-driver` (extra `cassandra`); `tamis.storage` imports
it when a URL asks for it. `docs/cassandra.md` explains the tables.
"""
