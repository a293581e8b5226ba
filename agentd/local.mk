noinst_LIBRARIES += libagentd.a
libagentd_a_SOURCES = agentd/calls.c agentd/calls.h agentd/check.c agentd/check.h agentd/cfg.c agentd/cfg.h agentd/cfg_agent.c agentd/cfg_check.c agentd/cfg_check.h agentd/cfg_diff.c agentd/cfg_dump.c \
	agentd/cfg_env.c agentd/cfg_exec.c agentd/cfg_files.c agentd/cfg_hash.c agentd/cfg_keys.c agentd/cfg_keys.def \
	agentd/cfg_later.def agentd/cfg_limits.c agentd/cfg_mix.h agentd/cfg_listen.c agentd/cfg_parse.c agentd/cfg_parse.h agentd/cfg_read.h \
	agentd/cfg_report.c agentd/cfg_resolve.c agentd/cfg_spec.c agentd/cfg_status.c agentd/cfg_stored.c agentd/cfg_systemd.def \
	agentd/cfg_trust.c agentd/cfg_trust.h agentd/cfg_values.c agentd/cfg_words.c agentd/cfg_worker.c \
	agentd/daemon.c agentd/daemon.h agentd/doctor.c agentd/doctor.h agentd/event.c agentd/event.h agentd/facts.c agentd/facts.h agentd/helper.c agentd/helper.h agentd/link.c \
	agentd/link.h agentd/listen.c agentd/listen.h agentd/logs.c agentd/logs.h agentd/loop.c agentd/loop.h agentd/notify.c \
	agentd/notify.h agentd/journal.c agentd/journal.h agentd/op.c agentd/op.h agentd/op_record.c agentd/paths.c agentd/paths.h agentd/peer.c agentd/peer.h \
	agentd/private.c agentd/private.h agentd/reap.c agentd/reap.h agentd/reload.c agentd/reload.h agentd/state.c agentd/state.h agentd/store.c \
	agentd/store.h agentd/sup.c agentd/sup.h agentd/sup_left.c agentd/sup_left.h agentd/sup_plan.c agentd/sup_plan.h agentd/tail.c agentd/tail.h agentd/upgrade.c agentd/upgrade.h \
	agentd/upgrade_image.c agentd/upgrade_image.h agentd/upgrade_new.c agentd/view.c agentd/view.h agentd/wk.c \
	agentd/wk.h agentd/wk_adopt.c agentd/wk_image.c agentd/wk_fsm.c agentd/wk_fsm.def agentd/wk_fsm.h agentd/wk_health.c agentd/wk_live.c agentd/wk_signal.c agentd/wk_start.c agentd/wk_stop.c agentd/wk_take.c
sbin_PROGRAMS += bin/agentd
bin_agentd_SOURCES = agentd/main.c
bin_agentd_LDADD = libagentd.a libproc.a libsystemdroom.a libwire.a libbase.a $(LIBEVENT_CORE_LIBS) $(LIBSYSTEMD_LIBS) \
	$(LIBCAP_LIBS) -lm
