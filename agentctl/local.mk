noinst_LIBRARIES += libagentctl.a
libagentctl_a_SOURCES = agentctl/agent.c agentctl/ask.c agentctl/audit.c agentctl/audit_check.c agentctl/audit_read.c \
	agentctl/audit_trail.h agentctl/change.c agentctl/change.h agentctl/completion.c agentctl/conf.c agentctl/conf.h agentctl/credential.c agentctl/credential_file.c \
	agentctl/credential_file.h agentctl/credential_secret.c agentctl/credential_secret.h agentctl/doctor.c agentctl/events.c agentctl/fleet.c agentctl/help.c agentctl/http.c agentctl/http.h agentctl/import.c agentctl/import.h agentctl/import_ini.c agentctl/import_ini.h agentctl/import_js.c agentctl/import_json.c agentctl/import_load.c agentctl/import_model.c \
	agentctl/import_monit.c agentctl/import_monit.h agentctl/import_monit_if.c agentctl/import_monit_parse.c agentctl/import_node.c agentctl/import_node.h agentctl/import_obagent.c \
	agentctl/import_pm2.c agentctl/import_pm2.h agentctl/import_pm2_keys.c agentctl/import_supervisor.c agentctl/import_supervisor.h agentctl/import_supervisor_keys.c agentctl/import_tell.c \
	agentctl/import_unit.c agentctl/import_words.c agentctl/import_write.c agentctl/import_yaml.c \
	agentctl/logs.c agentctl/migrate.c agentctl/migrate.h agentctl/migrate_files.c agentctl/migrate_peer.c agentctl/migrate_pipes.c agentctl/migrate_record.c agentctl/migrate_unit.c agentctl/obagent.c \
	agentctl/options.c agentctl/options.def agentctl/options.h agentctl/out.c agentctl/out.h agentctl/past.c agentctl/private.c agentctl/private.h agentctl/reload.c agentctl/rows.c agentctl/rows.h agentctl/search.c agentctl/setup.c agentctl/status.c agentctl/status.h agentctl/takeover.c agentctl/top.c agentctl/verbs.c agentctl/verbs.def agentctl/verbs.h
bin_PROGRAMS += bin/agentctl
bin_agentctl_SOURCES = agentctl/main.c
bin_agentctl_LDADD = libagentctl.a libjson.a libwire.a libbase.a $(LIBCURL_LIBS) $(LIBCRYPTO_LIBS) $(LIBCRYPT_LIBS) $(LIBYAML_LIBS)
# Completion, written by the command itself: a file for each shell, under the name that it looks for.
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
nodist_bashcompletion_DATA = completion/agentctl
nodist_zshcompletion_DATA = completion/_agentctl
nodist_fishcompletion_DATA = completion/agentctl.fish
CLEANFILES += completion/agentctl completion/_agentctl completion/agentctl.fish
completion/agentctl: bin/agentctl
	$(AM_V_GEN)mkdir -p completion && bin/agentctl completion bash >$@.new && mv $@.new $@
completion/_agentctl: bin/agentctl
	$(AM_V_GEN)mkdir -p completion && bin/agentctl completion zsh >$@.new && mv $@.new $@
completion/agentctl.fish: bin/agentctl
	$(AM_V_GEN)mkdir -p completion && bin/agentctl completion fish >$@.new && mv $@.new $@
