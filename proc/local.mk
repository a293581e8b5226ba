noinst_LIBRARIES += libproc.a
libproc_a_SOURCES = proc/sys.c proc/sys.h proc/pidref.c proc/pidref.h proc/caps.c proc/caps.h proc/spawn.c proc/spawn.h \
	proc/spawn_child.c proc/spawn_int.h proc/cgroup.c proc/cgroup.h proc/cgroup_res.c proc/cgroup_res.def \
	proc/cgroup_res.h proc/snap.c proc/snap.h proc/ports.c proc/ports.h proc/live.c proc/live.h proc/alike.c proc/alike.h \
	proc/pressure.c proc/pressure.h
