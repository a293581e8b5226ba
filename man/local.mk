dist_man_MANS = man/agentd.conf.5 man/agentd.worker.5 man/agentctl.1 man/agentd-rpc.7 man/agentd.8
