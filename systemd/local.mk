noinst_LIBRARIES += libsystemdroom.a
libsystemdroom_a_SOURCES = systemd/sdn.c systemd/sdn.h systemd/sdn_job.c systemd/sdn_notify.c systemd/sdn_notify.h systemd/messages.def
EXTRA_DIST += systemd/make-catalog
catalogdir = $(prefix)/lib/systemd/catalog
catalog_DATA = systemd/agentd.catalog
CLEANFILES += systemd/agentd.catalog
systemd/agentd.catalog: $(srcdir)/systemd/messages.def $(srcdir)/systemd/make-catalog
	$(AM_V_GEN)mkdir -p systemd && $(AWK) -f $(srcdir)/systemd/make-catalog $(srcdir)/systemd/messages.def >$@
