noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = base/array.c base/array.h base/chain.c base/chain.h base/err.c base/err.h base/feature.c base/feature.def base/feature.h base/fd.c base/fd.h base/signals.c base/signals.h base/str.c base/str.h base/buf.c base/buf.h base/buf_json.c \
	base/clock.c base/clock.h base/cred.c base/cred.h base/log.c base/log.h base/limits.h
