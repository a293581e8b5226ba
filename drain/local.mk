libexec_PROGRAMS += bin/agentd-drain
bin_agentd_drain_SOURCES = drain/main.c drain/drain.h
bin_agentd_drain_LDADD = libbase.a
