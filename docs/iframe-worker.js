// Search in pages that are read from a disk. Browsers allow them no worker, so that the script of
// the search runs in a hidden frame instead. Material's plugin `offline` would load such a script
// from another host, unless one of this name is there.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.scope = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const scope = this.frame.contentWindow
          scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = scope.document.createElement("script")
          script.src = new URL(url, document.baseURI)
          script.onload = () => resolve(scope)
          script.onerror = () => reject(new Error(`${script.src} is not there`))
          scope.document.body.append(script)
        }
      })
      document.body.append(this.frame)
    }

    postMessage(data) {
      this.scope.then((scope) => {
        scope.dispatchEvent(new scope.MessageEvent("message", { data }))
      })
    }

    terminate() {
      this.frame.remove()
    }
  }
}
