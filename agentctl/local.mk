noinst_LIBRARIES += libagentctl.a
libagentctl_a_SOURCES = agentctl/agent.c agentctl/ask.c agentctl/audit.c agentctl/audit_check.c agentctl/audit_read.c \
	agentctl/audit_trail.h agentctl/change.c agentctl/change.h agentctl/completion.c agentctl/conf.c agentctl/conf.h agentctl/credential.c agentctl/credential_file.c \
	agentctl/credential_file.h agentctl/credential_secret.c agentctl/credential_secret.h agentctl/doctor.c agentctl/events.c agentctl/fleet.c agentctl/help.c agentctl/http.c agentctl/http.h agentctl/logs.c agentctl/obagent.c \
	agentctl/options.c agentctl/options.def agentctl/options.h agentctl/out.c agentctl/out.h agentctl/past.c agentctl/private.c agentctl/private.h agentctl/reload.c agentctl/rows.c agentctl/rows.h agentctl/setup.c agentctl/status.c agentctl/status.h agentctl/takeover.c agentctl/top.c agentctl/verbs.c agentctl/verbs.def agentctl/verbs.h
bin_PROGRAMS += bin/agentctl
bin_agentctl_SOURCES = agentctl/main.c
bin_agentctl_LDADD = libagentctl.a libjson.a libwire.a libbase.a $(LIBCURL_LIBS) $(LIBCRYPTO_LIBS) $(LIBCRYPT_LIBS)
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
