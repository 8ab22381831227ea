#!/bin/sh
# Writes the configuration of each replica and the secrets to the volume /etc/useradmin.
set -eu
cd /etc/useradmin
for replica in 1 2 3; do
    sed "s/:50051/:5005$replica/; s/:9464/:946$((replica + 3))/" /source/useradmin.toml >"replica-$replica.toml"
done
sed 's/store\.url/owner.url/' replica-1.toml >owner.toml
echo 'postgres://useradmin:server-password@127.0.0.1:5432/useradmin' >store.url
echo 'postgres://useradmin_owner:owner-password@127.0.0.1:5432/useradmin' >owner.url
echo hmc-password >hmc.password
# The user of the image. Writing again must be possible, to try another password.
chown 10001:10001 ./*
chmod 600 ./*.url hmc.password
