// SPDX-License-Identifier: Apache-2.0
/* The form of pm2's template, with what an app may have. */
module.exports = {
  apps : [{
    name: 'the api',
    script: './app.sh',
    args: "--port 80 'a b' --x=\"1 2\" $5",
    interpreter_args: ['-e'],
    cwd: "/srv/../tmp",
    instances: 2,
    exec_mode: "cluster",
    env: { NODE_ENV: 'development', PORT: 3000, NAME: `a "b"` },
    env_production: { NODE_ENV: "production" },
    increment_var: 'PORT',
    max_memory_restart: '300M',
    min_uptime: '10s', max_restarts: 5,
    restart_delay: 4000,
    autorestart: true,
    kill_timeout: 3000,
    listen_timeout: 8000, wait_ready: true,
    out_file: './out.log',
    error_file: '/dev/null',
    merge_logs: true,
    log_date_format: 'YYYY-MM-DD',
    cron_restart: '0 0 * * *',
    watch: false,
    ignore_watch: ['node_modules'],
    uid: 'root', gid: 0,
    stop_exit_codes: [0, 3],
    unheard_of: {},
  }, {
    script: 'cat', args: ['-'], interpreter: 'none', exp_backoff_restart_delay: 100, autorestart: false, treekill: false,
  }, {
    name: "line", script: "cd /; echo $X", log_file: 'both.log',
  }],

  deploy : {
    production : { user : 'joe', 'post-deploy' : "npm install && pm2 reload ecosystem.config.js --env production" }
  }
};
