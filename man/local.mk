dist_man_MANS = man/agentd.conf.5 man/agentd.worker.5
