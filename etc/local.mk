# ob_cleaner: the demo's third worker, a real program.
noinst_PROGRAMS += bin/ob_cleaner
bin_ob_cleaner_SOURCES = etc/demo/ob_cleaner.c
# What to put in front of agentd, for an administrator to take.
examplesdir = $(docdir)/examples
examples_DATA = etc/examples/haproxy.cfg etc/examples/nginx.conf
