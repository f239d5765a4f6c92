// The same cases in Node, each in a realm of its own.
const fs = require("fs"), vm = require("vm");
const script = fs.readFileSync(process.argv[2], "utf8");
for (const line of fs.readFileSync(0, "utf8").split("\n").filter((line) => line !== "")) {
  const realm = vm.createContext({ Buffer, line });
  let answer;
  try {
    vm.runInContext(script, realm);
    answer = vm.runInContext(`(() => {
      const { bytes, fPort, recvTime } = JSON.parse(line);
      const list = [];
      for (let at = 0; at < bytes.length; at += 2) list.push(parseInt(bytes.slice(at, at + 2), 16));
      return JSON.stringify(decodeUplink({ bytes: list, fPort, recvTime: new Date(recvTime), variables: {} }));
    })()`, realm);
  } catch (thrown) {
    answer = JSON.stringify({ error: `${thrown.name}: ${thrown.message}` });
  }
  console.log(answer);
}
