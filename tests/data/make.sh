#!/bin/sh
# How the certificates of this folder were made: throw-away keys that guard nothing, for TLS on loopback.
# Run here with OpenSSL 3; all but expired.pem are good until 2120.
set -eu
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

cat > "$work/ca.conf" <<END
[ca]
default_ca = here
[here]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
END
: > "$work/index"

made() { # NAME NOT-BEFORE NOT-AFTER ISSUER EXTENSIONS: key and certificate in NAME.pem
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$work/$1.key"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    printf 'subjectKeyIdentifier=hash\n%b' "$5" > "$work/$1.ext"
    openssl ca -batch -notext -config "$work/ca.conf" -startdate "$2" -enddate "$3" $4 -extfile "$work/$1.ext" \
        -in "$work/$1.csr" -out "$work/$1.crt"
    cat "$work/$1.key" "$work/$1.crt" > "$1.pem"
}
by_ca="-cert $work/ca.crt -keyfile $work/ca.key"
leaf='basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectAltName='
made ca 20200101000000Z 21200101000000Z "-selfsign -keyfile $work/ca.key" \
    'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n'
made server 20200101000000Z 21200101000000Z "$by_ca" "${leaf}DNS:localhost,IP:127.0.0.1\n"
made wrong_host 20200101000000Z 21200101000000Z "$by_ca" "${leaf}DNS:elsewhere.example\n"
made expired 20200101000000Z 20210101000000Z "$by_ca" "${leaf}DNS:localhost,IP:127.0.0.1\n"
made client 20200101000000Z 21200101000000Z "$by_ca" "${leaf}DNS:client.example\n"
cp "$work/ca.crt" ca.pem
openssl pkey -in "$work/client.key" -aes128 -passout pass:secret > client_locked.pem
cat "$work/client.crt" >> client_locked.pem
