#!/bin/sh
# Writes certificates.pem: certificates of kinds that rcgen with ring cannot make. Needs OpenSSL 3.
# Leaves that are named after their authority have the key rsa-test-key.pem; all other keys are thrown away.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# key NAME OPTION...: a private key.
key() {
    name=$1
    shift
    openssl genpkey -out "$name.key" "$@" 2>/dev/null
}

# authority NAME OPTION...: a self-signed authority with the key of this name.
authority() {
    name=$1
    shift
    openssl req -x509 -key "$name.key" -out "$name.pem" -days 300000 -subj "/CN=$name" \
        -addext keyUsage=critical,keyCertSign "$@"
}

# issue AUTHORITY NAME OPTION...: a certificate for servers and clients with the key of this name.
issue() {
    authority=$1 name=$2
    shift 2
    echo 'subjectAltName=DNS:localhost,URI:spiffe://corp/offboarding' >"$name.ext"
    openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
    openssl x509 -req -in "$name.csr" -CA "$authority.pem" -CAkey "$authority.key" -CAcreateserial -days 300000 \
        -extfile "$name.ext" -out "$name.pem" "$@" 2>/dev/null
}

curve() { key "$1" -algorithm EC -pkeyopt "ec_paramgen_curve:$2"; }
rsa() { key "$1" -algorithm RSA -pkeyopt "rsa_keygen_bits:$2"; }

curve ca-p256 P-256
curve ca-p384 P-384
curve ca-p521 P-521
curve ca-p224 P-224
curve ca-secp256k1 secp256k1
curve ca-brainpool brainpoolP256r1
key ca-explicit -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
curve uncompressed P-256
openssl ec -in uncompressed.key -conv_form compressed -out ca-compressed.key 2>/dev/null
rsa ca-rsa1024 1024
rsa ca-rsa2040 2040
rsa ca-rsa2047 2047
rsa ca-rsa8192 8192
rsa ca-rsa8200 8200
key ca-rsa-pss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
key ca-ed25519 -algorithm ED25519
key ca-ed448 -algorithm ED448
openssl genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -out dsa.params 2>/dev/null
openssl genpkey -paramfile dsa.params -out ca-dsa.key
rsa ca-sha1 2048
for file in ca-*.key; do
    [ "$file" = ca-sha1.key ] || authority "${file%.key}"
done
authority ca-sha1 -sha1

curve leaf-p521 P-521
rsa leaf-rsa1024 1024
key leaf-ed448 -algorithm ED448
for leaf in leaf-p521 leaf-rsa1024 leaf-ed448; do
    issue ca-p256 "$leaf"
done
for kind in p256 p384 ed25519 rsa2047 rsa8192 sha1 p521 rsa1024 ed448; do
    cp "$here/rsa-test-key.pem" "leaf-of-$kind.key"
    issue "ca-$kind" "leaf-of-$kind"
done
cp "$here/rsa-test-key.pem" leaf-sha1.key
issue ca-p256 leaf-sha1 -sha1
cp "$here/rsa-test-key.pem" leaf-sha512.key
issue ca-p256 leaf-sha512 -sha512
cp "$here/rsa-test-key.pem" leaf-sha512-of-p521.key
issue ca-p521 leaf-sha512-of-p521 -sha512

# An intermediate authority whose key cannot be used.
curve ca-below P-521
echo 'basicConstraints=critical,CA:TRUE' >ca-below.ext
openssl req -new -key ca-below.key -subj /CN=ca-below -out ca-below.csr
openssl x509 -req -in ca-below.csr -CA ca-p256.pem -CAkey ca-p256.key -CAcreateserial -days 300000 \
    -extfile ca-below.ext -out ca-below.pem 2>/dev/null
cp "$here/rsa-test-key.pem" leaf-of-below.key
issue ca-below leaf-of-below

for file in ca-*.pem leaf-*.pem; do
    echo "# ${file%.pem}"
    cat "$file"
done >"$here/certificates.pem"
