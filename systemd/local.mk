noinst_LIBRARIES += libsystemdroom.a
libsystemdroom_a_SOURCES = systemd/sdn.c systemd/sdn.h systemd/sdn_job.c
