dist_man_MANS = man/agentd.conf.5 man/agentd.worker.5 man/agentctl.1 man/agentd-rpc.7 man/agentd.8 man/agentd-drain.8
# What the tables of the pages are made of: scripts/manual puts them there.
noinst_PROGRAMS += man/tables
man_tables_SOURCES = man/tables.c
