noinst_PROGRAMS += bench/bench bench/worker
bench_bench_SOURCES = bench/main.c bench/host.c bench/floor.c bench/http.c bench/rotate.c bench/bench.h bench/page.h
bench_bench_LDADD = $(LIBEVENT_LIBS)
bench_worker_SOURCES = bench/worker.c bench/page.h
# Static: what is measured is the supervisor, not the dynamic loader.
bench_worker_LDFLAGS = -static
bench_worker_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -Wall
