# Makes a CA and a certificate for each role in the directory $1, unless they are there. For trying it out: a real CA
# keeps its key elsewhere, and each container sees its own files alone.
set -e
cd "$1"
test ! -e gateway.pem || exit 0
umask 077
new_key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

openssl req -x509 $new_key -days 365 -subj "/CN=Example CA" -keyout ca-key.pem -out ca.pem

sign() { # NAME EXTENSION…
  name=$1
  shift
  openssl req $new_key -subj "/CN=$name" -keyout "$name-key.pem" -out "$name.csr"
  printf '%s\n' "$@" > "$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 90 \
    -extfile "$name.ext" -out "$name.pem"
  rm "$name.csr" "$name.ext"
}

sign host "subjectAltName=DNS:host" "extendedKeyUsage=serverAuth"
sign guest "extendedKeyUsage=clientAuth"
sign gateway "extendedKeyUsage=clientAuth"
