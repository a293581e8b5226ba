unit_libs = libagentd.a libproc.a libsystemdroom.a libwire.a libbase.a
unit_ext = $(LIBEVENT_CORE_LIBS) $(LIBSYSTEMD_LIBS) $(LIBCAP_LIBS) $(LIBCRYPTO_LIBS) $(ZLIB_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += tests/unit/test_auth tests/unit/test_cfg tests/unit/test_gate tests/unit/test_import tests/unit/test_json tests/unit/test_log_line tests/unit/test_log_read tests/unit/test_log_request tests/unit/test_route tests/unit/test_rows tests/unit/test_verbs tests/unit/test_wire tests/unit/test_wish
tests_unit_test_auth_LDADD = librpc.a libjson.a libwire.a libbase.a $(LIBCRYPTO_LIBS) $(CMOCKA_LIBS)
tests_unit_test_cfg_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_gate_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_import_LDADD = libagentctl.a libjson.a libwire.a libbase.a $(LIBCURL_LIBS) $(LIBYAML_LIBS) $(CMOCKA_LIBS)
tests_unit_test_json_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_log_line_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_log_read_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_log_request_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_route_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_rows_LDADD = libagentctl.a libjson.a libwire.a libbase.a $(LIBCURL_LIBS) $(CMOCKA_LIBS)
tests_unit_test_verbs_LDADD = libagentctl.a libjson.a libwire.a libbase.a $(LIBCURL_LIBS) $(LIBCRYPTO_LIBS) $(LIBCRYPT_LIBS) $(LIBYAML_LIBS) $(CMOCKA_LIBS)
tests_unit_test_wire_LDADD = libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_wish_LDADD = librpc.a libbase.a $(CMOCKA_LIBS)
noinst_PROGRAMS += tests/lib/crashat tests/lib/fake_agentd tests/lib/fake_upgrade tests/lib/hostile_rpc tests/lib/sandboxed tests/lib/nosys tests/lib/skew.so tests/lib/worker \
	tests/qemu/init
tests_lib_skew_so_SOURCES = tests/lib/skew.c
tests_lib_skew_so_CFLAGS = $(AM_CFLAGS) -fPIC
tests_lib_skew_so_LDFLAGS = -shared
tests_lib_crashat_LDADD = $(LIBSECCOMP_LIBS)
tests_lib_fake_agentd_LDADD = libwire.a libbase.a
tests_lib_hostile_rpc_LDADD = libwire.a libbase.a
tests_lib_nosys_LDADD = $(LIBSECCOMP_LIBS)
tests_lib_sandboxed_LDADD = librpc.a libbase.a $(LIBSECCOMP_LIBS)
TESTS_ENVIRONMENT = srcdir=$(srcdir)
check_PROGRAMS += tests/unit/test_after tests/unit/test_base tests/unit/test_chain tests/unit/test_cgroup tests/unit/test_cgroup_res tests/unit/test_diff \
	tests/unit/test_facts tests/unit/test_fsm tests/unit/test_helper tests/unit/test_live \
	tests/unit/test_peer tests/unit/test_pidref tests/unit/test_ports tests/unit/test_reap tests/unit/test_spawn tests/unit/test_spawn_fail tests/unit/test_state tests/unit/test_store \
	tests/unit/test_rotate tests/unit/test_words
unit_proc = libproc.a libbase.a $(LIBCAP_LIBS) $(CMOCKA_LIBS)
tests_unit_test_after_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_base_LDADD = libbase.a $(CMOCKA_LIBS)
tests_unit_test_chain_LDADD = libbase.a $(LIBCRYPTO_LIBS) $(CMOCKA_LIBS)
tests_unit_test_cgroup_LDADD = $(unit_proc)
tests_unit_test_cgroup_res_LDADD = $(unit_proc)
tests_unit_test_diff_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_live_LDADD = $(unit_proc) -lpthread
tests_unit_test_facts_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_fsm_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_helper_SOURCES = tests/unit/test_helper.c tests/fake/sys.c tests/fake/sys_fake.h
tests_unit_test_helper_LDADD = $(unit_libs) $(unit_ext)
# The fakes stand before the libraries, so that the real ones are not taken out of them.
tests_unit_test_pidref_SOURCES = tests/unit/test_pidref.c tests/fake/sys.c tests/fake/sys_fake.h
tests_unit_test_pidref_LDADD = $(unit_proc)
tests_unit_test_ports_LDADD = $(unit_proc)
tests_unit_test_spawn_SOURCES = tests/unit/test_spawn.c tests/unit/spawn_run.h
tests_unit_test_spawn_LDADD = $(unit_proc)
tests_unit_test_spawn_fail_SOURCES = tests/unit/test_spawn_fail.c tests/unit/spawn_run.h
tests_unit_test_spawn_fail_LDADD = $(unit_proc)
tests_unit_test_state_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_words_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_reap_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_rotate_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_peer_SOURCES = tests/unit/test_peer.c tests/fake/clock.c tests/fake/clock_fake.h
tests_unit_test_peer_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_store_SOURCES = tests/unit/test_store.c tests/fake/clock.c tests/fake/clock_fake.h
tests_unit_test_store_LDADD = $(unit_libs) $(unit_ext)
