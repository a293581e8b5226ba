# ob_cleaner: the demo's third worker, a real program.
noinst_PROGRAMS += bin/ob_cleaner
bin_ob_cleaner_SOURCES = etc/demo/ob_cleaner.c
# What systemd reads: units, users, folders.
systemdunit_DATA = etc/systemd/agentd.service etc/systemd/agentd.socket
systemduserunit_DATA = etc/systemd/user/agentd.service
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
CLEANFILES += etc/systemd/agentd.service etc/systemd/user/agentd.service
etc/systemd/agentd.service: $(srcdir)/etc/systemd/agentd.service.in Makefile
	$(AM_V_GEN)mkdir -p etc/systemd && sed $(UNIT_SED) -e 's|[@]sbindir[@]|$(sbindir)|g' $< >$@
etc/systemd/user/agentd.service: $(srcdir)/etc/systemd/agentd-user.service.in Makefile
	$(AM_V_GEN)mkdir -p etc/systemd/user && sed $(UNIT_SED) -e 's|[@]sbindir[@]|$(sbindir)|g' $< >$@
# Installed under the package's name, not the file's.
install-data-local:
	$(MKDIR_P) $(DESTDIR)$(sysusersdir) $(DESTDIR)$(tmpfilesdir)
	$(INSTALL_DATA) $(srcdir)/etc/systemd/agentd.sysusers $(DESTDIR)$(sysusersdir)/agentd.conf
	$(INSTALL_DATA) $(srcdir)/etc/systemd/agentd.tmpfiles $(DESTDIR)$(tmpfilesdir)/agentd.conf
uninstall-local:
	rm -f $(DESTDIR)$(sysusersdir)/agentd.conf $(DESTDIR)$(tmpfilesdir)/agentd.conf
# What to put in front of agentd or around it, for an administrator to take.
examplesdir = $(docdir)/examples
examples_DATA = etc/examples/haproxy.cfg etc/examples/nginx.conf etc/examples/unprivileged.conf
