unit_libs = libagentd.a libproc.a libsystemdroom.a libwire.a libbase.a
unit_ext = $(LIBEVENT_CORE_LIBS) $(LIBSYSTEMD_LIBS) $(LIBCAP_LIBS) $(CMOCKA_LIBS) -lm
check_PROGRAMS += tests/unit/test_cfg tests/unit/test_gate tests/unit/test_json tests/unit/test_route tests/unit/test_wire
tests_unit_test_cfg_LDADD = $(unit_libs) $(unit_ext)
tests_unit_test_gate_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_json_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_route_LDADD = librpc.a libjson.a libwire.a libbase.a $(CMOCKA_LIBS)
tests_unit_test_wire_LDADD = libwire.a libbase.a $(CMOCKA_LIBS)
noinst_PROGRAMS += tests/lib/fake_agentd tests/lib/worker tests/lib/nosys
tests_lib_fake_agentd_LDADD = libwire.a libbase.a
tests_lib_nosys_LDADD = $(LIBSECCOMP_LIBS)
TESTS_ENVIRONMENT = srcdir=$(srcdir)
