# libjson.a is what both ends of HTTP share: the JSON reader and the table of calls.
noinst_LIBRARIES += libjson.a librpc.a
libjson_a_SOURCES = rpc/json_dec.c rpc/json_dec.h rpc/method.c rpc/method.h rpc/method.def
librpc_a_SOURCES = rpc/audit.c rpc/audit.h rpc/auth.c rpc/auth.h rpc/auth_aksk.c rpc/auth_basic.c rpc/auth_cache.c rpc/auth_digest.c \
	rpc/auth_parts.h rpc/auth_seen.c rpc/auth_sign.c rpc/auth_slow.c rpc/call.c rpc/call.h rpc/change.c \
	rpc/change.h rpc/events.c rpc/events.h rpc/gate.c rpc/gate.h rpc/handlers.h rpc/json_enc.c rpc/json_enc.h rpc/key.c rpc/key.h rpc/link.c rpc/link.h \
	rpc/listen.c rpc/listen.h rpc/obagent.c rpc/obagent_log.c rpc/obagent_read.c rpc/obagent_read.h rpc/ocp.c rpc/ocp.h rpc/own.c rpc/own.h rpc/own_doctor.c rpc/own_lists.c rpc/own_past.c rpc/reply.c rpc/reply.h rpc/request.c rpc/request.h \
	rpc/route.c rpc/route.h rpc/sample.c rpc/sample.h rpc/sandbox.c rpc/sandbox.h rpc/metrics.c rpc/metrics.def rpc/openapi.c rpc/page.c rpc/param.def rpc/schema.def rpc/stats.c rpc/stats.h rpc/stream.c rpc/stream.h \
	rpc/source.c rpc/source.h rpc/table.c rpc/table.h rpc/task.c rpc/tls.c rpc/tls.h rpc/tls_load.c rpc/tls_load.h rpc/view.c rpc/view.h rpc/when.c rpc/when.h rpc/wish.c rpc/wish.h rpc/zip.c rpc/zip.h
libexec_PROGRAMS += bin/agentd-rpc
bin_agentd_rpc_SOURCES = rpc/main.c
bin_agentd_rpc_LDADD = librpc.a libjson.a libwire.a libbase.a $(LIBEVENT_LIBS) $(LIBSSL_LIBS) $(LIBCRYPTO_LIBS) $(LIBCRYPT_LIBS) \
	$(LIBSECCOMP_LIBS) $(ZLIB_LIBS)
